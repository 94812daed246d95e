"""Devices: the mesh over them, their peaks, what a step costs on them and sends between them."""
