"""Commands, run as `python -m scripts.NAME`, and the places where a search is put together."""
