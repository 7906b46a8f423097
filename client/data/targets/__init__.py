"""What a row is to give where that is no single class: a set of labels, or numbers; and what their column suggests."""
