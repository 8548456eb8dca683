"""The paper's model and what it is made of."""
