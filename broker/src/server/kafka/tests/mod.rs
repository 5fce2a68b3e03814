mod hostile;
mod produce_fetch;
mod protocol;
mod rig;
