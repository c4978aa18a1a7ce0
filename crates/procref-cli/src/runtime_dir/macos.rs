/// The help for the runtime directory.
pub(crate) const HELP: &str = "Runtime directory; processes with the same one share services

The default is $PROCREF_RUNTIME_DIR if that is set, and otherwise procref in this user's directory for temporary files, \
which `getconf DARWIN_USER_TEMP_DIR` prints.";
