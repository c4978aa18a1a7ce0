// Acquires a service, and never releases it.
import { acquire } from "procref";

await acquire("web");
