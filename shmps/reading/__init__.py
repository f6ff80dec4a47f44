"""Data from files: svmlight text, CSV and features by name, and the mapped form that is made from them."""
