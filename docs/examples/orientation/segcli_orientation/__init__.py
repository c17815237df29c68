"""Plugins of segcli; pyproject.toml says under which names."""
