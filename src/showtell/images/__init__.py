"""Pictures: opened, cut into the views that an encoder sees, drawn on sheets. Imports no torch."""
