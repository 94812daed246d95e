"""Labelled pairs: a reader for each form they come in, and which of them are taken."""
