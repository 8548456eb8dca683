"""Reports on the installation."""
