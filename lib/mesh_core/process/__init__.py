"""A process of the mesh: from settings to exit code, its logs, the page that its watchdog reads."""
