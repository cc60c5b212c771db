// Chooses the environment of the tenant that a proxy names.
//
// Throwing { tag, val } is the `err` of the interface; the tag is one of invalid-input, temporary and internal.

let prefix;

export const lifecycle = {
  init(config) {
    ({ prefix } = JSON.parse(config));
  },
};

export const routeResolver = {
  resolve(request) {
    const [tenant] = request.header("x-tenant");
    // The header is a list of bytes; names of environments have only ASCII.
    return tenant === undefined ? undefined : prefix + String.fromCharCode(...tenant);
  },
};
