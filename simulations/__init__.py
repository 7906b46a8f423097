"""Many clients on one machine and one base model; recipes, reports and benches."""
