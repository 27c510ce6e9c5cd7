"""Gymnasium environments over shared weights."""
