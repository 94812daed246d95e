"""Inspection of an explanation dataset: verified, counted, shown."""
