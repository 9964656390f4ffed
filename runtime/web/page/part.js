/**
 * An element of the page.
 * @type {(id: string) => any}
 */
export const part = (id) => document.getElementById(id)
