"""What a tenant notices of what another one does."""
