# The library from Ruby, without an extension. `client.rb LIBRARY DIR SERVICE.PY` prints the pid of the service.
require "fiddle/import"

library, dir, program = ARGV

Procref = Module.new do
  extend Fiddle::Importer
  dlload library
  extern "unsigned int procref_abi_version()"
  extern "void *procref_service_new(char *, void *, void *)"
  extern "int procref_service_set(void *, char *, char *, void *)"
  extern "int procref_acquire(void *, void *, void *, void *)"
  extern "unsigned int procref_handle_pid(void *)"
  extern "int procref_release(void *, void *)"
  extern "void procref_service_free(void *)"
end

abort "another version of the interface" unless Procref.procref_abi_version == 1
words = ["python3", program, "#{dir}/log", "{port}"]
argv = words.map { |word| Fiddle::Pointer[word].to_i }.push(0).pack("J*")
service = Procref.procref_service_new("test", argv, nil)
abort "no service" unless Procref.procref_service_set(service, "runtime-dir", "#{dir}/run", nil).zero?
place = Fiddle::Pointer.malloc(Fiddle::SIZEOF_VOIDP, Fiddle::RUBY_FREE)
abort "no handle" unless Procref.procref_acquire(service, nil, place, nil).zero?
handle = place.ptr
puts Procref.procref_handle_pid(handle)
abort "not released" unless Procref.procref_release(handle, nil).zero?
Procref.procref_service_free(service)
