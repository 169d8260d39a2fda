"""Looking at tasks and agents: one episode at a time, in a window or on a web page."""
