"""Small networks of our own for recipes that must train within minutes; imported by name, they need transformers."""
