import "@mantine/core/styles.css";
import "@mantine/notifications/styles.css";
import "./style.css";
import {
  type CSSVariablesResolver,
  createTheme,
  defaultVariantColorsResolver,
  MantineProvider,
  type VariantColorsResolver,
} from "@mantine/core";
import { Notifications } from "@mantine/notifications";
import { QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { client } from "./queries";
import { router } from "./router";

/** Under the pointer a button gets darker, not brighter: white text on it must stay readable (WCAG AA). */
const variantColorResolver: VariantColorsResolver = (input) => {
  const colors = defaultVariantColorsResolver(input);
  const hover = `color-mix(in srgb, ${colors.background}, black 12%)`;
  return input.variant === "filled" ? { ...colors, hover } : colors;
};

/** The same of buttons that name neither colour nor variant: their colours are variables of the page. */
const cssVariablesResolver: CSSVariablesResolver = () => ({
  variables: {
    "--mantine-primary-color-filled-hover":
      "color-mix(in srgb, var(--mantine-primary-color-filled), black 12%)",
  },
  light: {},
  dark: {},
});

const theme = createTheme({
  variantColorResolver,
  primaryColor: "cyan",
  // Dark enough for white text on it in both schemes (WCAG AA).
  primaryShade: { light: 9, dark: 9 },
  autoContrast: false,
  fontFamily: "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'Noto Sans CJK JP', sans-serif",
  defaultRadius: "sm",
  // Nothing moves for those who asked their system for that.
  respectReducedMotion: true,
});

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <MantineProvider theme={theme} cssVariablesResolver={cssVariablesResolver} defaultColorScheme="auto">
        <Notifications position="bottom-right" limit={3} />
        <QueryClientProvider client={client}>
          <RouterProvider router={router} />
        </QueryClientProvider>
      </MantineProvider>
    </StrictMode>,
  );
}
