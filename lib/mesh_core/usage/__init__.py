"""What tenants use: counted in each process, and kept by day."""
