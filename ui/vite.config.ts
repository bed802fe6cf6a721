import { gzipSync } from "node:zlib";
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

/** Puts `NAME.gz` beside each file that is worth it; the server sends that to browsers that take it. */
function packed(): Plugin {
  return {
    name: "packed",
    generateBundle(_, bundle) {
      for (const [name, file] of Object.entries(bundle)) {
        const source = file.type === "chunk" ? file.code : file.source;
        const bytes = Buffer.from(source);
        const small = gzipSync(bytes, { level: 9 });
        if (small.length < bytes.length * 0.9) {
          this.emitFile({ type: "asset", fileName: `${name}.gz`, source: small });
        }
      }
    },
  };
}

export default defineConfig({
  plugins: [react(), packed()],
  build: {
    target: "es2022",
    chunkSizeWarningLimit: 1200,
    sourcemap: false,
    modulePreload: { polyfill: false },
  },
  server: { proxy: { "/api": "http://127.0.0.1:7400" } },
  test: { include: ["src/**/*.test.ts"] },
} as Parameters<typeof defineConfig>[0]);
