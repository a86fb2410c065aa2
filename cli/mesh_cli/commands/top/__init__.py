"""`mesh top`: how the mesh does now, in a terminal."""
