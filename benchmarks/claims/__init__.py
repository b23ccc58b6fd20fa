"""What the article "Convolutions: The Magic Behind Neural Networks" claims, measured."""
