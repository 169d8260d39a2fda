"""Insertions: a plug in the hand goes into or over a socket."""
