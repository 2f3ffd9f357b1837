"""An example of a distribution that extends ptharness; docs/how-to/ship-a-plugin.md explains it."""
