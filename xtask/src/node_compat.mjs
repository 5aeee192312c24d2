// Prints what wrangler's bundler does for `nodejs_compat` as a table by compatibility
// date, from the two packages that it asks. Run in a folder whose `node_modules` holds
// them; the first argument is that `node_modules`.
//
// unenv's preset knows dates and flags only as comparisons in its code, so both are read
// from its source and then tried.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, relative } from "node:path";
import { pathToFileURL } from "node:url";

const root = process.argv[2];
const require = createRequire(join(root, "x.js"));
const load = (file) => import(pathToFileURL(join(root, file)));
const { defineEnv } = await load("unenv/dist/index.mjs");
const presetFile = "@cloudflare/unenv-preset/dist/index.mjs";
const { getCloudflarePreset, nonPrefixedNodeModules } = await load(presetFile);
const presetSource = readFileSync(join(root, presetFile), "utf8");

const version = (name) => JSON.parse(readFileSync(join(root, name, "package.json"), "utf8")).version;
const resolve = (specifier) => relative(root, require.resolve(specifier));
const sorted = (object) => Object.fromEntries(Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1)));

function environment(compatibilityDate, compatibilityFlags) {
	const preset = getCloudflarePreset({ compatibilityDate, compatibilityFlags });
	const { alias, inject, external, polyfill } = defineEnv({ presets: [preset], npmShims: true }).env;
	const native = new Set();
	const stubs = {};
	const npm = {};
	for (const [name, target] of Object.entries(alias)) {
		const builtin = name.replace(/^node:/, "");
		const isBuiltin = name.startsWith("node:") || nonPrefixedNodeModules.includes(builtin);
		if (external.includes(target)) native.add(builtin);
		else if (isBuiltin) stubs[builtin] = resolve(target);
		else if (name !== "debug") npm[name] = resolve(target);
	}
	const globals = {};
	for (const [name, source] of Object.entries(inject)) {
		if (!source) continue;
		const [module, exported] = Array.isArray(source) ? source : [source, "default"];
		globals[name] = [resolve(module), exported];
	}
	return {
		native: [...native].sort(),
		stubs: sorted(stubs),
		globals: sorted(globals),
		polyfills: polyfill.map(resolve),
		npm: sorted(npm),
	};
}

function difference(base, changed) {
	const native = changed.native.filter((name) => !base.native.includes(name));
	const stubs = Object.entries(changed.stubs).filter(([name]) => !(name in base.stubs));
	const globals = Object.fromEntries([
		...Object.entries(changed.globals).filter(([name]) => !(name in base.globals)),
		...Object.keys(base.globals).filter((name) => !(name in changed.globals)).map((name) => [name, null]),
	]);
	const added = changed.polyfills.filter((file) => !base.polyfills.includes(file));
	const removed = base.polyfills.filter((file) => !changed.polyfills.includes(file));
	const patch = {
		native,
		stubs: Object.fromEntries(stubs),
		globals: sorted(globals),
		add_polyfills: added,
		remove_polyfills: removed,
	};
	return Object.values(patch).some((part) => Object.keys(part).length > 0) ? patch : undefined;
}

const unique = (pattern) => [...new Set([...presetSource.matchAll(pattern)].map((match) => match[1]))].sort();
const dates = ["2024-09-23", ...unique(/compatibilityDate >= "(\d{4}-\d{2}-\d{2})"/g)];
const flags = unique(/compatibilityFlags\.includes\(\s*"(\w+)"/g);

const table = {
	packages: { unenv: version("unenv"), "@cloudflare/unenv-preset": version("@cloudflare/unenv-preset") },
	unprefixed: nonPrefixedNodeModules,
	npm: environment(dates[0], []).npm,
	dates: dates.map((from) => {
		const { native, stubs, globals, polyfills } = environment(from, []);
		const changes = {};
		for (const flag of flags) {
			const patch = difference({ native, stubs, globals, polyfills }, environment(from, [flag]));
			if (patch) changes[flag] = patch;
		}
		return { from, native, stubs, globals, polyfills, flags: changes };
	}),
};
process.stdout.write(JSON.stringify(table, null, "\t") + "\n");
