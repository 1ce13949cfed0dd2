"""What is kept on disk: results, snapshots, history."""
