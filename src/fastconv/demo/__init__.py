"""What the demo convolves: a photograph, classic image filters, the convolutions of AlexNet."""
