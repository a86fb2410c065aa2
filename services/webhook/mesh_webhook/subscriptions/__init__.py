"""Named subscriptions: a place in the events that the mesh keeps, shared by the streams that consume it."""
