"""Prompts as data: one YAML file each."""
