"""Sources of the guidance gradient."""
