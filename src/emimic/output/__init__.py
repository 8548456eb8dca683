"""Results as tables, plots, HTML pages and annotation files."""
