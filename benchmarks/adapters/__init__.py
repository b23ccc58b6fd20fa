"""What an adapter adds to a call: a few pixels through another library, beside fastconv's own call."""
