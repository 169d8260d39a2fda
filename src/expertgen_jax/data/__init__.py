"""Episodes in the formats of others, in and out."""
