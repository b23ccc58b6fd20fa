"""What an adapter adds to a call: few pixels through another library, beside our own call."""
