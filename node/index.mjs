// One module does the work for both kinds of imports, so that there is one class `ProcrefError`.
import procref from "./index.cjs";

export const { acquire, binary, ProcrefError } = procref;
