"""Engines: whatever runs the LLM, behind one small interface."""
