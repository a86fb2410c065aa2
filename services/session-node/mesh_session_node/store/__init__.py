"""Every SQL statement of the session-node that reads, and where files are kept. Writing is the journal's."""
