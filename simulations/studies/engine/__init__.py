"""What every study is run with: trials in processes, records that a stopped study goes on from, a page."""
