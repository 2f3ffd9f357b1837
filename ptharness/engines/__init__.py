"""Engines: what turns token ids into completions and log-likelihoods."""
