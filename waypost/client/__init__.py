"""How a program reads the registry: local copies of route tables that outlive the registry."""
