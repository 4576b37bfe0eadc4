"""Read frames from files, folders, cameras and URLs; write video that can be trusted."""
