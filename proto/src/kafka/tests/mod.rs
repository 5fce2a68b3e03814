mod debug_tree;
mod differential;
mod golden;
mod hostile;
