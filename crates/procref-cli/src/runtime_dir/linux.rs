/// The help for the runtime directory.
pub(crate) const HELP: &str = "Runtime directory; processes with the same one share services

The default is $PROCREF_RUNTIME_DIR if that is set, $XDG_RUNTIME_DIR/procref if the directory $XDG_RUNTIME_DIR exists and \
belongs to this user, and otherwise /tmp/procref-UID.";
