"""One policy a module, named after what it decides; each is pure and knows no other."""
