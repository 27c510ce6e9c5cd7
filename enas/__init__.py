"""The domain: search spaces, shared-weight children, data, rewards, the search loop and what it writes."""
