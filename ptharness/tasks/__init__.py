"""Tasks: what makes prompts and scores responses."""
