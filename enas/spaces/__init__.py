"""Search spaces, one file each; a space is a list of decisions."""
