"""The targets that come with kdnas."""
