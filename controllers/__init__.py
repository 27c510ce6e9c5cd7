"""Who proposes architectures: one file a strategy."""
