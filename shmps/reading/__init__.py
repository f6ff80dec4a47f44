"""Data from files: svmlight text and features by name, and the mapped form that is made from them."""
