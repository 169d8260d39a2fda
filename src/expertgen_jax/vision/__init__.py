"""What cameras see: rays on the device for students, frames for people."""
