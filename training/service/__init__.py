"""The retrainer: answers retraining requests; each training runs in a child process."""
